/* SPDX-License-Identifier: MIT
 *
 * Kernels of one stream that overlap (PTX ISA, griddepcontrol): the next one begins
 * while this one drains, and waits before it reads or writes what others do.  Whether a
 * kernel may begin early is up to its launch (cuda_launch.c); where it may not, and
 * before sm_90, all this is nothing.
 *
 * Every kernel waits, in every thread that touches global memory, before it does.  One
 * whose threads do not touch any waits too: the next kernel waits for this one alone,
 * and takes it that what came before is over with it. */
#ifndef NATTEN_CUDA_DEVICE_OVERLAP_CUH
#define NATTEN_CUDA_DEVICE_OVERLAP_CUH

namespace natten {

/* Let the next kernel begin where blocks of this one leave room.  It does so once all
 * blocks of this one have said this or are over, so none of them is kept waiting. */
__device__ inline void let_next_kernel_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* Wait until the kernel before is over and all it has written can be seen. */
__device__ inline void wait_for_kernels_before()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

} // namespace natten

#endif
