"""Find where an NPU run goes wrong, from its dump files alone: no CANN, no device."""
