//! `pipectl`: the terminal console and command line of `pipelined`.
