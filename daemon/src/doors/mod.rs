//! Doors: the ways in from outside the process. The control socket and its sessions.
