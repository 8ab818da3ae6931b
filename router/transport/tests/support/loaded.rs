//! A program in the kernel, or why a test has none.

use viaduct_transport::xdp::ProgramFault;

/// `None` with the reason printed where the kernel lets us have none, or none was built.
pub(crate) fn loaded<T>(result: Result<T, ProgramFault>) -> Option<T> {
    match result {
        Ok(program) => Some(program),
        Err(ProgramFault::Kernel(what, error))
            if error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            eprintln!("skipped: the kernel lets us load no BPF program: {what}: {error}");
            None
        }
        Err(ProgramFault::Absent) => {
            eprintln!("skipped: {}", ProgramFault::Absent);
            None
        }
        Err(fault) => panic!("{fault}"),
    }
}
