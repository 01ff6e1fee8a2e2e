//! Large pages, where the system has them: an address in one is found without a walk through the system's own tables.

/// Bytes of a large page.
pub(crate) const LARGE: usize = 2 << 20;

/// Asks for large pages for the whole ones in `len` bytes.
///
/// # Safety
/// The bytes are the caller's, from a multiple of [`LARGE`] on.
#[cfg(target_os = "linux")]
pub(crate) unsafe fn prefer(data: *mut u8, len: usize) {
    unsafe extern "C" {
        fn madvise(addr: *mut core::ffi::c_void, length: usize, advice: core::ffi::c_int) -> core::ffi::c_int;
    }
    const MADV_HUGEPAGE: core::ffi::c_int = 14;
    // SAFETY: whole pages of the caller's memory; the advice changes no content, and a refusal is harmless.
    unsafe { madvise(data.cast(), len & !(LARGE - 1), MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) unsafe fn prefer(_: *mut u8, _: usize) {}
