//! Records and record batches: pure, no sockets, no threads, no clocks.
