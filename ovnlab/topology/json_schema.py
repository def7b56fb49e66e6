"""The JSON schema of topology files, as shipped beside them."""

from __future__ import annotations

import json

from ovnlab.topology.model import TopologyFile


def schema_text() -> str:
    """Return the schema as indented JSON, ending in a newline."""
    schema = TopologyFile.model_json_schema(by_alias=True)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"
