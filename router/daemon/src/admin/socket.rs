//! The Unix socket: for its owner alone, never taken from a router that lives.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::net::UnixListener;

use super::AdminError;

/// Binds with mode 0600. A socket left over from a router that has died is replaced.
pub(super) fn bind(path: &Path) -> Result<UnixListener, AdminError> {
    let place = || format!("unix:{}", path.display());
    let fault = |source| AdminError::Bind { place: place(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|facts| facts.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(AdminError::InUse(place()));
        }
        fs::remove_file(path).map_err(fault)?;
    }
    // Bound under another name and renamed when its mode is right, so that nobody can connect in
    // between. The name is short: socket paths end at 107 bytes.
    let draft = path.with_extension("new");
    if fs::symlink_metadata(&draft).is_ok_and(|facts| facts.file_type().is_socket()) {
        fs::remove_file(&draft).map_err(fault)?;
    }
    let listener = UnixListener::bind(&draft).map_err(fault)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).map_err(fault)?;
    fs::rename(&draft, path).map_err(fault)?;
    Ok(listener)
}
