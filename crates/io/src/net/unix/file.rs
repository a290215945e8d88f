//! [`SocketFile`]: the file that a bound socket leaves behind, unless somebody removes it.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file of a socket, removed when this is dropped. None, if its address is no file.
#[derive(Debug, Default)]
pub(crate) struct SocketFile(RefCell<Option<Own>>);

#[derive(Debug)]
struct Own {
    path: PathBuf,
    /// Device and inode: somebody else may have put another file there meanwhile.
    identity: (u64, u64),
}

impl SocketFile {
    /// The file at `path`, which a socket has just made.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let is_abstract = path.as_os_str().as_encoded_bytes().first() == Some(&0);
        if is_abstract {
            return Ok(SocketFile::default());
        }
        // Also if the process changes its directory.
        let path = std::path::absolute(path)?;
        let identity = identity(&path)?;
        Ok(SocketFile(RefCell::new(Some(Own { path, identity }))))
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        match &*self.0.borrow() {
            Some(own) => fs::set_permissions(&own.path, fs::Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }

    pub(crate) fn remove(&self) {
        if let Some(own) = self.0.take()
            && identity(&own.path).is_ok_and(|identity| identity == own.identity)
        {
            // Nobody is there to be told: the worst is that the file stays.
            let _ = fs::remove_file(&own.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}
