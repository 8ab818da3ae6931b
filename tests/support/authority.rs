//! A certificate authority of the test's own.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::skip::find_program;

/// Why a test is skipped when [`Authority::new`] gives nothing.
pub const NO_OPENSSL: &str = "openssl is not installed";

/// An authority; its files go when it is dropped.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    /// A new one; `None` without the program for it.
    ///
    /// # Errors
    /// What the program says.
    pub fn new() -> Result<Option<Self>> {
        if find_program("openssl").is_none() {
            return Ok(None);
        }
        let folder = TempDir::with_prefix("viaduct-ca-")?;
        let mut words = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
        words.extend(KEY);
        words.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
        openssl(folder.path(), &words)?;
        Ok(Some(Self { folder }))
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a server at an address, signed by it.
    ///
    /// # Errors
    /// What the program says.
    pub fn issue(&self, address: IpAddr) -> Result<Issued> {
        let folder = self.folder.path();
        let mut words = vec!["req", "-subj", "/CN=server"];
        words.extend(KEY);
        words.extend(["-keyout", "server.key", "-out", "server.csr"]);
        openssl(folder, &words)?;
        fs::write(folder.join("names"), format!("subjectAltName=IP:{address}\n"))?;
        let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.pem"];
        let to = ["-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-out", "server.pem"];
        openssl(folder, &[sign.as_slice(), to.as_slice()].concat())?;
        Ok(Issued { certificate: folder.join("server.pem"), key: folder.join("server.key") })
    }
}

fn openssl(folder: &Path, words: &[&str]) -> Result<()> {
    let output = Command::new("openssl").current_dir(folder).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl {}: {said}", words.join(" "));
    Ok(())
}
