"""Training configurations that ship, one TOML file each."""
