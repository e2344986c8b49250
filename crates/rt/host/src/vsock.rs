//! Connections to virtual machines by number.

#![allow(unsafe_code)]

use std::{
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a virtual machine.
#[derive(Debug)]
pub struct VsockStream {
    // The standard library's stream is used for reading and writing only, which is the same for all kinds of sockets.
    inner: AsyncFd<std::os::unix::net::UnixStream>,
}

/// Connects to a port of a machine.
///
/// # Errors
/// If the system refuses, or there is no answer.
pub async fn connect(cid: u32, port: u32) -> io::Result<VsockStream> {
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and is nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all-zero is a value of this plain structure.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    let length = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the address is live and its length right.
    let result = unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) };
    let in_progress = |e: &io::Error| e.raw_os_error() == Some(libc::EINPROGRESS);
    if result < 0 {
        let error = io::Error::last_os_error();
        if !in_progress(&error) {
            return Err(error);
        }
    }
    // SAFETY: the stream owns its descriptor and never gives it away or changes it.
    let inner = unsafe { AsyncFd::register(std::os::unix::net::UnixStream::from(fd)) }.map_err(io::Error::from)?;
    let stream = VsockStream { inner };
    tokio::time::timeout(ATTEMPT_TIMEOUT, stream.inner.writable())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
        .retain_ready();
    match stream.inner.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

impl AsyncRead for VsockStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.inner.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|inner| inner.get_ref().read(unfilled)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for VsockStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.inner.poll_write_ready(cx))?;
            match guard.try_io(|inner| inner.get_ref().write(bytes)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.inner.get_ref().shutdown(std::net::Shutdown::Write))
    }
}
