"""Many runs, each in a process of its own or together in one."""
