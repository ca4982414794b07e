//! What makes events inside the daemon: pure generators on a seed. The loop that sends them is `runtime/intake`.
