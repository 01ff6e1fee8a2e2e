//! Large tables that are read anywhere: in huge pages an address is found without a walk through the system's own tables, which costs as
//! much again as the memory, more in a virtual machine.

/// A vector of so many elements, all the same, in huge pages where the system has them.
pub fn filled<T: Copy>(length: usize, element: T) -> Vec<T> {
    let mut table = Vec::with_capacity(length);
    prefer(table.spare_capacity_mut());
    table.resize(length, element);
    table
}

/// Asks for huge pages for memory that nothing was written to yet; without effect on what it holds.
pub fn prefer<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = (memory.as_mut_ptr() as usize).next_multiple_of(PAGE);
        let end = (memory.as_mut_ptr_range().end as usize) / PAGE * PAGE;
        if end > start {
            // SAFETY: the pages lie within memory that is borrowed for writing, and the advice does not change what they hold.
            unsafe {
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_it_holds_stays() {
        for length in [0, 1, 3000, 5_000_000] {
            let mut table = super::filled(length, 7u32);
            super::prefer(&mut table);
            assert!(table.len() == length && table.iter().all(|&element| element == 7));
        }
    }
}
