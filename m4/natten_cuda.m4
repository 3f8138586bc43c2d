# SPDX-License-Identifier: MIT
#
# The CUDA kernels.  They take minutes to compile, so they are built only when asked for;
# the host side of the CUDA backend is plain C and part of every build.

# NATTEN_ARG_CUDA: HAVE_CUDA, HAVE_CUDA_WGMMA for make, NVCC, NVCC_GENCODE, NVCC_GENCODE_HALO, NVCC_GENCODE_SWEEP,
# NVCC_GENCODE_WGMMA; NATTEN_HAVE_CUDA, NATTEN_CUDA_ARCHS, NATTEN_CUDA_PTX, NATTEN_CUDA_WGMMA for C; natten_cuda for the
# summary.
AC_DEFUN([NATTEN_ARG_CUDA],[
AC_ARG_VAR([NVCC],[CUDA compiler])
AC_ARG_WITH([cuda],[AS_HELP_STRING([--with-cuda@<:@=DIR|auto|no@:>@],
  [kernels for NVIDIA GPUs, by the nvcc of DIR, NVCC or PATH @<:@no@:>@])],
  [],[with_cuda=no natten_cuda_why="not asked for: --with-cuda"])
AC_ARG_WITH([cuda-archs],[AS_HELP_STRING([--with-cuda-archs=LIST],
  [architectures to make machine code for @<:@75 80 86 89 90a@:>@])],
  [],[with_cuda_archs="75 80 86 89 90a"])
natten_cuda=no
AS_CASE([$with_cuda],
  [no],[: ${natten_cuda_why="--without-cuda"}],
  [yes|auto],[AC_PATH_PROG([NVCC],[nvcc],[],[$PATH:/usr/local/cuda/bin])],
  [NVCC=$with_cuda/bin/nvcc])
AS_IF([test "$with_cuda" != no],[
  AS_IF([test -n "$NVCC" && test -x "$NVCC"],[
    # Through a link nvcc does not find its own headers.
    NVCC=`readlink -f "$NVCC"`
    NATTEN_CUDA_TRY],
    [natten_cuda_why="no nvcc${NVCC:+ at $NVCC}"])
  AS_IF([test "$with_cuda/$natten_cuda" != "auto/no" && test "$natten_cuda" = no],
    [AC_MSG_ERROR([--with-cuda: $natten_cuda_why])])])
AM_CONDITIONAL([HAVE_CUDA],[test "$natten_cuda" = yes])
AM_CONDITIONAL([HAVE_CUDA_WGMMA],[test "$natten_cuda" = yes && test -n "$NVCC_GENCODE_WGMMA"])
AS_IF([test "$natten_cuda" = yes],[
  AC_DEFINE([NATTEN_HAVE_CUDA],[1],[Define to 1 if the CUDA kernels are built])
  AC_DEFINE_UNQUOTED([NATTEN_CUDA_ARCHS],["$natten_cuda_archs"],
    [Architectures that the kernels are machine code of])
  AC_DEFINE_UNQUOTED([NATTEN_CUDA_PTX],[$natten_cuda_ptx],
    [Architecture that the kernels are PTX of])
  AS_IF([test -n "$NVCC_GENCODE_WGMMA"],[
    AC_DEFINE([NATTEN_CUDA_WGMMA],[1],[Define to 1 if there are kernels of warpgroups])])
  natten_cuda="$natten_cuda_archs, PTX of $natten_cuda_ptx"],
  [natten_cuda="no ($natten_cuda_why)"])
])

# NATTEN_CUDA_TRY: does NVCC make what is asked for?  PTX is of the oldest architecture
# with the instructions that tensor cores are used by, and never of one with a letter,
# which only that one could run.
AC_DEFUN([NATTEN_CUDA_TRY],[
natten_cuda_archs=`echo "$with_cuda_archs" | tr ';,' '  ' | tr -s ' '`
natten_cuda_ptx=80
NVCC_GENCODE="-gencode arch=compute_$natten_cuda_ptx,code=compute_$natten_cuda_ptx"
for natten_arch in $natten_cuda_archs; do
  NVCC_GENCODE="$NVCC_GENCODE -gencode arch=compute_$natten_arch,code=sm_$natten_arch"
done
AC_SUBST([NVCC_GENCODE])
# The halo kernels: tensor cores are used from sm_80 on, and 86 and 89 run its code.
NVCC_GENCODE_HALO="-gencode arch=compute_$natten_cuda_ptx,code=compute_$natten_cuda_ptx"
for natten_arch in $natten_cuda_archs; do
  AS_CASE(["$natten_arch, $natten_cuda_archs "],
    [75*],[],
    [8?*" 80 "*|86*" 80 "*],[AS_IF([test "$natten_arch" = 80],
      [NVCC_GENCODE_HALO="$NVCC_GENCODE_HALO -gencode arch=compute_80,code=sm_80"])],
    [NVCC_GENCODE_HALO="$NVCC_GENCODE_HALO -gencode arch=compute_$natten_arch,code=sm_$natten_arch"])
done
AC_SUBST([NVCC_GENCODE_HALO])
# Gradients in one pass are for 90 alone, which may have to make do with PTX.
NVCC_GENCODE_SWEEP="-gencode arch=compute_90,code=compute_90"
for natten_arch in $natten_cuda_archs; do
  AS_CASE([$natten_arch],
    [90*],[NVCC_GENCODE_SWEEP="$NVCC_GENCODE_SWEEP -gencode arch=compute_$natten_arch,code=sm_$natten_arch"])
done
AC_SUBST([NVCC_GENCODE_SWEEP])
# Products of warpgroups are instructions of 90a, which no PTX and no other GPU has.
NVCC_GENCODE_WGMMA=""
AS_CASE([" $natten_cuda_archs "],
  [*" 90a "*],[NVCC_GENCODE_WGMMA="-gencode arch=compute_90a,code=sm_90a"])
AC_SUBST([NVCC_GENCODE_WGMMA])
AC_MSG_CHECKING([whether $NVCC makes code for $natten_cuda_archs])
echo 'extern "C" __global__ void f(int *x) { *x = 1; }' > conftest.cu
AS_IF([$NVCC -std=c++20 $NVCC_GENCODE -fatbin -o conftest.fatbin conftest.cu \
         >&AS_MESSAGE_LOG_FD 2>&1],
  [natten_cuda=yes],
  [natten_cuda_why="$NVCC does not make code for $natten_cuda_archs"])
rm -f conftest.cu conftest.fatbin
AC_MSG_RESULT([$natten_cuda])
])
