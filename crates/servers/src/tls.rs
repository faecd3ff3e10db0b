//! Certificates of an authority of our own, which no machine trusts, made by the `openssl` program.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// An authority, and a server's certificate for `localhost` and 127.0.0.1. The files go with this.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub fn make() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("uzel-tls-").tempdir().context("a temporary folder")?;
        let own = Self { folder };
        let rights = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        fs::write(own.folder.path().join("rights"), rights)?;
        own.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=nobody")?;
        own.openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost")?;
        own.openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile rights -out server.pem")?;
        Ok(own)
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    fn openssl(&self, arguments: &str) -> anyhow::Result<()> {
        let mut command = Command::new("openssl");
        let ran = command.args(arguments.split(' ')).current_dir(self.folder.path()).output();
        let ran = ran.context("openssl is not installed: apt-get install openssl")?;
        ensure!(ran.status.success(), "openssl: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    }
}
