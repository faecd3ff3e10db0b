//! Files that only their owner reads, and that are whole or not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Makes a folder for its owner alone. On Windows that is up to the place: the user's profile is.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Options of a new file for its owner alone.
pub(crate) fn own() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Puts a whole file in a file's place: a crash leaves the old one or the new one.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    write_beside(file, content)?;
    take_place(file)
}

/// Writes what is to take a file's place, on the disk.
pub(crate) fn write_beside(file: &Path, content: &[u8]) -> io::Result<()> {
    let new = beside(file, NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = own().create_new(true).open(&new)?;
    written.write_all(content)?;
    written.sync_all()
}

/// Lets what was written beside a file take its place. Windows may refuse while the file is open.
pub(crate) fn take_place(file: &Path) -> io::Result<()> {
    fs::rename(beside(file, NEW), file)?;
    sync_folder(file)
}

const NEW: &str = ".new";

/// Makes a name in a folder last. Windows cannot be asked to: there the file's own sync has to do.
pub(crate) fn sync_folder(file: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

pub(crate) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Whether others than the owner may read it; never said of Windows.
pub(crate) fn is_open_to_others(file: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(file)?;
    #[cfg(unix)]
    return Ok(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0);
    #[cfg(not(unix))]
    {
        drop(metadata);
        Ok(false)
    }
}
