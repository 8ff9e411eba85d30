//! Kafka's wire protocol: pure, no sockets, no threads, no clocks.
