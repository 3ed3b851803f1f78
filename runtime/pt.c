/* Reads PyTorch's .pt files. */
#include "runtime/pt.h"
#include <string.h>

bool pt_looks_like(const uint8_t *b, size_t len) { return len >= 4 && (memcmp(b, "PK\x03\x04", 4) == 0 || (b[0] == 0x80 && b[1] <= 5 && b[2] != 0)); }
bool pt_parse(const uint8_t *bytes, size_t len, const char *name, WeightsFile *out, RtError *e)
{
    (void)bytes, (void)len, (void)out;
    return rt_error(e, RT_FILE, "'%s': PyTorch files cannot be read yet", name);
}
