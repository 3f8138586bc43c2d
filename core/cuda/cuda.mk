# SPDX-License-Identifier: MIT
#
# The CUDA backend.  Its host side is C and in every build.  nvcc makes two fat binaries
# for each element type out of one page, simt.cu, one for each 16-bit type out of
# halo.cu, of sweep.cu and, for 90a alone, of band.cu and wgmma.cu, and of mma.cu one
# for each type and tf32; cuda_image.c carries them along.

core_libnatten_core_la_SOURCES += \
	%D%/cuda.c \
	%D%/cuda.h \
	%D%/cuda_band.c \
	%D%/cuda_band.h \
	%D%/cuda_band_block.h \
	%D%/cuda_count.c \
	%D%/cuda_count.h \
	%D%/cuda_family.c \
	%D%/cuda_family.h \
	%D%/cuda_halo.c \
	%D%/cuda_halo.h \
	%D%/cuda_host.c \
	%D%/cuda_host.h \
	%D%/cuda_image.c \
	%D%/cuda_image.h \
	%D%/cuda_job.h \
	%D%/cuda_launch.c \
	%D%/cuda_launch.h \
	%D%/cuda_mma.c \
	%D%/cuda_mma.h \
	%D%/cuda_plan.c \
	%D%/cuda_plan.h \
	%D%/cuda_slab.c \
	%D%/cuda_slab.h \
	%D%/cuda_sweep.c \
	%D%/cuda_sweep.h \
	%D%/cuda_wgmma.c \
	%D%/cuda_wgmma.h \
	%D%/cuda_wgmma_crew.h

cuda_kernels = \
	%D%/band.cu \
	%D%/band_backward.cuh \
	%D%/band_forward.cuh \
	%D%/band_shapes.def \
	%D%/device/band_bring.cuh \
	%D%/device/band_tile.cuh \
	%D%/device/element.cuh \
	%D%/device/halo_copies.cuh \
	%D%/device/halo_flat.cuh \
	%D%/device/halo_open.cuh \
	%D%/device/halo_tile.cuh \
	%D%/device/halo_rows.cuh \
	%D%/device/halo_walk.cuh \
	%D%/device/keys.cuh \
	%D%/device/lane.cuh \
	%D%/device/mma_added.cuh \
	%D%/device/mma_copies.cuh \
	%D%/device/mma_kept.cuh \
	%D%/device/mma_parts.cuh \
	%D%/device/mma_rows.cuh \
	%D%/device/mma_runs.cuh \
	%D%/device/mma_tile.cuh \
	%D%/device/mma_walk.cuh \
	%D%/device/overlap.cuh \
	%D%/device/sweep_bias.cuh \
	%D%/device/sweep_tile.cuh \
	%D%/device/tensor_core.cuh \
	%D%/device/walk.cuh \
	%D%/device/warpgroup.cuh \
	%D%/device/wgmma_bring.cuh \
	%D%/device/wgmma_open.cuh \
	%D%/device/wgmma_results.cuh \
	%D%/device/wgmma_stats.cuh \
	%D%/device/wgmma_tile.cuh \
	%D%/device/wgmma_turn.cuh \
	%D%/halo.cu \
	%D%/halo_backward.cuh \
	%D%/halo_forward.cuh \
	%D%/mma.cu \
	%D%/mma_shapes.def \
	%D%/mma_backward.cuh \
	%D%/mma_forward.cuh \
	%D%/simt.cu \
	%D%/simt_again.cuh \
	%D%/simt_backward.cuh \
	%D%/simt_forward.cuh \
	%D%/simt_merge.cuh \
	%D%/simt_slots.cuh \
	%D%/simt_sums.cuh \
	%D%/sweep.cu \
	%D%/sweep_backward.cuh \
	%D%/wgmma.cu \
	%D%/wgmma_backward.cuh \
	%D%/wgmma_forward.cuh \
	%D%/wgmma_shapes.def
EXTRA_DIST += $(cuda_kernels)

if HAVE_CUDA
# nvcc writes no dependencies that make could read, so they are all named.  That products
# of warpgroups wait for each other it only mentions: here it is an error.
cuda_images = %D%/simt_fp64.fatbin %D%/simt_fp32.fatbin %D%/simt_bf16.fatbin \
	%D%/simt_fp16.fatbin %D%/simt_fp64_easy.fatbin %D%/simt_fp32_easy.fatbin \
	%D%/simt_bf16_easy.fatbin %D%/simt_fp16_easy.fatbin \
	%D%/halo_bf16.fatbin %D%/halo_fp16.fatbin %D%/mma_bf16.fatbin %D%/mma_fp16.fatbin \
	%D%/mma_fp64.fatbin %D%/mma_fp32.fatbin %D%/mma_tf32.fatbin \
	%D%/sweep_bf16.fatbin %D%/sweep_fp16.fatbin
if HAVE_CUDA_WGMMA
cuda_images += %D%/band_bf16.fatbin %D%/band_fp16.fatbin \
	%D%/wgmma_bf16.fatbin %D%/wgmma_fp16.fatbin
endif
CLEANFILES += $(cuda_images)
%D%/cuda_image.lo: $(cuda_images)

$(cuda_images): $(cuda_kernels) %D%/cuda_job.h %D%/cuda_band_block.h %D%/cuda_wgmma_crew.h core/problem/task.h core/geometry/axis.h \
		core/base/dtype.h core/base/inline.h core/include/natten.h
	$(AM_V_GEN)$(MKDIR_P) %D% && \
	case $@ in \
	*_fp64*) element=double bytes=8 ;; \
	*_fp32*) element=float bytes=4 ;; \
	*_tf32*) element=natten::Tf32 bytes=4 ;; \
	*_bf16*) element=__nv_bfloat16 bytes=2 ;; \
	*_fp16*) element=__half bytes=2 ;; \
	esac && \
	case $@ in *_easy*) easy=1 ;; *) easy=0 ;; esac && \
	case $@ in \
	*band*) page=band code='$(NVCC_GENCODE_WGMMA)' ;; \
	*halo*) page=halo code='$(NVCC_GENCODE_HALO)' ;; \
	*wgmma*) page=wgmma code='$(NVCC_GENCODE_WGMMA)' ;; \
	*mma*) page=mma code='$(NVCC_GENCODE_HALO)' ;; \
	*sweep*) page=sweep code='$(NVCC_GENCODE_SWEEP)' ;; \
	*) page=simt code='$(NVCC_GENCODE)' ;; \
	esac && \
	case $$page in wgmma) check=-Xptxas=-v ;; *) check= ;; esac && \
	{ $(NVCC) -std=c++20 -O3 $$check $$code -I$(srcdir)/core -I$(srcdir)/core/include \
	  -DNATTEN_ELEMENT=$$element -DNATTEN_ELEMENT_BYTES=$$bytes \
	  -DNATTEN_EASY_ROWS=$$easy $(NVCCFLAGS) -fatbin -o $@-t \
	  $(srcdir)/%D%/$$page.cu > $@.log 2>&1 || { cat $@.log >&2; exit 1; }; } && \
	{ grep -i warning $@.log >&2; \
	  ! grep 'instructions are serialized' $@.log >&2; } && \
	rm -f $@.log && mv $@-t $@
endif
