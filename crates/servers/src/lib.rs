//! Real servers for tests and benchmarks: PostgreSQL and NATS, each in a temporary folder, on loopback and a free port.
//!
//! A server ends when its handle is dropped, and also when the process that started it is killed: nothing is ever left behind.
//! A server that is not installed is an error that names the package, never a reason to skip.

mod nats;
mod pgbouncer;
mod postgres;
mod process;
mod tls;

pub use nats::{Nats, Sync};
pub use pgbouncer::{PgBouncer, Pooling};
pub use postgres::{Options, Postgres, Stop, program};
pub use process::{Watch, free_port, signal};
pub use tls::Certificates;
