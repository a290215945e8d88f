//! [`read()`] and [`write()`]: how the system is called for a socket that is connected.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod by_std {
    use std::io::{self, Read, Write};

    pub(crate) fn read<T>(mut io: &T, buffer: &mut [u8]) -> io::Result<usize>
    where
        for<'a> &'a T: Read,
    {
        // With no room in the buffer the system would wait for something to come.
        if buffer.is_empty() { Ok(0) } else { io.read(buffer) }
    }

    pub(crate) fn write<T>(mut io: &T, data: &[u8]) -> io::Result<usize>
    where
        for<'a> &'a T: Write,
    {
        io.write(data)
    }
}

/// Without the C library, whose calls are points where its threads can be cancelled, at a price that is felt.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod by_rustix {
    use std::io;
    use std::os::fd::AsFd;

    use rustix::net::{RecvFlags, SendFlags, recv, send};

    pub(crate) fn read<T: AsFd>(io: &T, buffer: &mut [u8]) -> io::Result<usize> {
        // With no room in the buffer the system would wait for something to come.
        if buffer.is_empty() { Ok(0) } else { Ok(recv(io, buffer, RecvFlags::empty())?.0) }
    }

    pub(crate) fn write<T: AsFd>(io: &T, data: &[u8]) -> io::Result<usize> {
        Ok(send(io, data, SendFlags::NOSIGNAL)?)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use self::by_rustix::{read, write};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use self::by_std::{read, write};
