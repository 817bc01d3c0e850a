//! What a process costs, read from /proc.

mod process;

pub(crate) use process::{Cpu, Memory, core_model, cpu, memory, thread_cpu};
