//! The theory's measurements that need trained models or run folders: ordinary SGD beside the theorem's
//! algorithm, checkpoints as its networks, and finished trials kept in files. The analysis itself is the
//! package `curricle-theory`, which knows neither.

pub mod network;
pub mod sgd;
pub mod state;
