//! The protocol on one shard and on several, in one thread. [`cluster`] is the broker without sockets; the tests lie
//! in files by what a client does.

mod cluster;

mod access;
mod authenticate;
mod connect;
mod enter;
mod inspect;
mod limits;
mod memory;
mod qos;
mod rate;
mod retained;
mod shared;
mod store;
mod subscribe;
mod trace;
