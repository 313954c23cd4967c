//! What tests allocate, thread by thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

thread_local! {
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Bytes that this thread has allocated and not freed. What it frees for others is subtracted.
pub fn bytes() -> i64 {
    BYTES.get()
}

fn note(layout: Layout, times: i64) {
    // Not while the thread ends.
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + times * layout.size() as i64));
}

/// The allocator of everything else, counted.
pub struct Counted(pub MiMalloc);

// SAFETY: the other allocator does what is asked; here it is only counted, without allocating anything.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout, 1);
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout, 1);
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(layout, -1);
        if let Ok(layout) = Layout::from_size_align(size, layout.align()) {
            note(layout, 1);
        }
        // SAFETY: as the caller promises.
        unsafe { self.0.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(layout, -1);
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(memory, layout) }
    }
}
