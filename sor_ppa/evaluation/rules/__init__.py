"""How each metric scores one image; `definitions` names the rules and says where they come from."""
