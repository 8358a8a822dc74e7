//! Which submission a pending future waits for: the one word that the asynchronous core leaves for whoever drives it.
//!
//! A browser calls back by itself. A native driver has to be polled, up to a submission; [`set`] is called by the innermost
//! future right before it returns "pending" to the thread that polls it, which is the thread that then calls [`take`].

#[cfg(not(target_arch = "wasm32"))]
thread_local! {
    static AWAITED: std::cell::RefCell<Option<wgpu::SubmissionIndex>> = const { std::cell::RefCell::new(None) };
}

/// This thread's future waits for `index`.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn set(index: &wgpu::SubmissionIndex) {
    AWAITED.set(Some(index.clone()));
}

/// Nobody asks.
#[cfg(target_arch = "wasm32")]
pub(super) fn set(_index: &wgpu::SubmissionIndex) {}

/// What this thread's future waits for.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn take() -> Option<wgpu::SubmissionIndex> {
    AWAITED.take()
}
