//! The bridge's folder and what lies in it.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
};

use anyhow::Context;

use crate::{files, key::Key, queue::Queue, settings::Settings};

#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub folder: PathBuf,
}

impl Place {
    /// The one that was named, or where it lies by default: in the user's profile on Windows, here elsewhere.
    pub(crate) fn new(named: Option<PathBuf>) -> Self {
        let profile = || {
            std::env::var_os("LOCALAPPDATA").filter(|_| cfg!(windows)).map(|profile| PathBuf::from(profile).join("uzel-bridge"))
        };
        Self { folder: named.or_else(profile).unwrap_or_else(|| PathBuf::from("uzel-bridge")) }
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.folder.join("bridge.toml")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("bridge.key")
    }

    pub(crate) fn queue(&self) -> PathBuf {
        self.folder.join("bridge.queue")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("bridge.log")
    }

    /// One process at a time works in the folder; `None` while another does. It is let go with the file.
    pub(crate) fn lock(&self) -> anyhow::Result<Option<File>> {
        let path = self.folder.join("bridge.lock");
        let name = || path.display().to_string();
        files::make_folder(&self.folder).with_context(|| self.folder.display().to_string())?;
        let file = files::own().open(&path).with_context(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(name),
        }
    }

    /// The queue, for whoever holds the lock.
    pub(crate) fn open(&self, settings: &Settings, now_ms: i64) -> anyhow::Result<(Queue, Key)> {
        let key = Key::load(&self.key(), &self.queue())?;
        let queue = Queue::open(&self.queue(), key.clone(), settings.queue_records_max, settings.keep_hours, now_ms)?;
        Ok((queue, key))
    }
}
