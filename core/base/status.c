/* SPDX-License-Identifier: MIT
 *
 * The table of statuses and each thread's last sentence.  The buffers are thread-local
 * and of fixed size: reporting a failure allocates nothing and so can't fail itself. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
    natten_status status;
    const char *text;
} texts[] = {
    {NATTEN_OK, "success"},
    {NATTEN_ERR_ARGUMENT, "argument out of range"},
    {NATTEN_ERR_SHAPE, "tensors disagree in shape"},
    {NATTEN_ERR_DTYPE, "element type not supported"},
    {NATTEN_ERR_LAYOUT, "strides, alignment or overlap not supported"},
    {NATTEN_ERR_OVERFLOW, "size does not fit in 64 bits"},
    {NATTEN_ERR_MEMORY, "out of memory"},
    {NATTEN_ERR_UNSUPPORTED, "not supported by this build or backend"},
    {NATTEN_ERR_DEVICE, "no such device, or tensors on different devices"},
    {NATTEN_ERR_INTERRUPTED, "interrupted by the cancel callback"},
    {NATTEN_ERR_ABI, "struct_size not known to this library"},
    {NATTEN_ERR_NO_DEVICE, "no NVIDIA driver or no GPU"},
    {NATTEN_ERR_DRIVER_TOO_OLD, "the NVIDIA driver is too old"},
    {NATTEN_ERR_ARCH, "no kernels for this GPU in this build"},
    {NATTEN_ERR_CUDA, "a call of the NVIDIA driver failed"},
    {NATTEN_ERR_FORKED, "CUDA was in use before the process was forked"},
};

static _Thread_local char sentence[NATTEN_SENTENCE_BYTES];
static _Thread_local const char *entered = "natten";

void natten_status_enter(const char *function)
{
    entered = function;
}

natten_status natten_status_fail(natten_status status, const char *format, ...)
{
    int saved_errno = errno;
    int used = snprintf(sentence, sizeof sentence, "%s: ", entered);
    if (used > 0 && (size_t)used < sizeof sentence) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(sentence + used, sizeof sentence - (size_t)used, format, arguments);
        va_end(arguments);
    }
    errno = saved_errno;
    return status;
}

const char *natten_status_text(natten_status status)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "unknown status";
}

const char *natten_status_sentence(void)
{
    return sentence;
}
