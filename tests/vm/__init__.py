"""Labs of virtual machines: real libvirt, real QEMU."""
