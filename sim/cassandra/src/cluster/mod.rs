//! Nodes, replicas and the messages between them.
