//! BPF_PROG_TEST_RUN: the kernel runs a program on bytes we give it, without any interface.
//!
//! Unsafe is the one system call; the crates at hand do not offer it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The part of `union bpf_attr` that the command reads.
#[repr(C)]
#[derive(Default)]
struct Attr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// What the program returned, and how many nanoseconds one run took on average.
pub(crate) fn run(program: impl AsFd, packet: &[u8], repeat: u32) -> io::Result<(u32, u32)> {
    let mut attr = Attr {
        prog_fd: program.as_fd().as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat,
        ..Attr::default()
    };
    // SAFETY: the kernel reads `attr` and the packet it points at, and writes only into `attr`,
    // whose size it is told; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attr,
            size_of::<Attr>() as libc::c_uint,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((attr.retval, attr.duration)) }
}
