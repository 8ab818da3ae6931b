//! Takes an XDP program off its interface behind its owner's back, as an administrator's tool does.
//!
//! Unsafe is the system call.
// A test stops at what it did not expect.
#![allow(unsafe_code, clippy::expect_used, clippy::indexing_slicing)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
const BPF_LINK_DETACH: libc::c_long = 34;

/// The first bytes of `union bpf_attr`; each command reads its own fields of it.
type Attr = [u32; 16];

/// Detaches the program with number `program` from the interface with number `interface`.
pub(crate) fn detach(program: u32, interface: u32) {
    let mut id = 0;
    loop {
        let mut attr: Attr = [0; 16];
        attr[0] = id;
        bpf(BPF_LINK_GET_NEXT_ID, &mut attr).expect("the program's link is there");
        id = attr[1];
        let Ok(link) = bpf(BPF_LINK_GET_FD_BY_ID, &mut [id].into_attr()) else {
            continue; // gone meanwhile
        };
        // SAFETY: the kernel has just opened this descriptor for us.
        let link = unsafe { OwnedFd::from_raw_fd(link) };
        if program_and_interface(&link) == (program, interface) {
            bpf(BPF_LINK_DETACH, &mut [link.as_raw_fd() as u32].into_attr()).expect("detached");
            return;
        }
    }
}

/// `struct bpf_link_info` begins with type, number and program; where it is of XDP, the interface
/// comes next, as far in as eight octets would have to be.
fn program_and_interface(link: &OwnedFd) -> (u32, u32) {
    let mut info = [0u32; 64];
    let at = info.as_mut_ptr() as u64;
    let (length, low, high) = (size_of_val(&info) as u32, at as u32, (at >> 32) as u32);
    let mut attr = [link.as_raw_fd() as u32, length, low, high].into_attr();
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).expect("a link has information");
    (info[2], info[4])
}

trait IntoAttr {
    fn into_attr(self) -> Attr;
}

impl<const N: usize> IntoAttr for [u32; N] {
    fn into_attr(self) -> Attr {
        let mut attr = [0; 16];
        attr[..N].copy_from_slice(&self);
        attr
    }
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes `attr`, whose size it is told, and the buffer it points
    // at, which outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
