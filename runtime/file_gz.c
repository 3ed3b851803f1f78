/* Reads files that may be gzipped.
 * In: a path. Out: the unpacked bytes.
 * Relies on zlib's own checks (CRC, length); leaves a complete file or an error, never a part.
 * Apart from file.c so that programs that read no gzip do not carry zlib. A runtime for a machine whose zlib was not at hand
 * (CNNC_WITHOUT_ZLIB) says so instead. */
#include "runtime/file.h"
#include <stdlib.h>

#ifdef CNNC_WITHOUT_ZLIB
static bool unpack(const char *path, const FileBytes *in, FileBytes *out, RtError *e)
{
    (void)in;
    (void)out;
    return rt_error(e, RT_FILE, "'%s' is packed with gzip, which this program was built without: unpack it first (gunzip)", path);
}
#else
#include <zlib.h>

/* Far above any data set read here (CIFAR-100's largest is 160 MB), far below what a hostile file could ask for. */
static const size_t max_unpacked = (size_t)4 << 30;

static bool unpack(const char *path, const FileBytes *in, FileBytes *out, RtError *e)
{
    if (in->len < 18)
        return rt_error(e, RT_FILE, "'%s' is cut short or damaged: gzip cannot unpack it", path);
    z_stream z = {0};
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return rt_error_memory(e, 1 << 16);
    /* gzip ends with the unpacked length; only a hint, as anybody may have written it */
    size_t hint = load_le32(in->at + in->len - 4), cap = (hint < in->len * 8 ? hint : in->len * 8) + 4096, fed = 0, len = 0;
    uint8_t *buf = malloc(cap);
    int r = buf ? Z_OK : Z_MEM_ERROR;
    while (r == Z_OK || r == Z_BUF_ERROR) {
        if (len == cap) {
            uint8_t *more = cap < max_unpacked ? realloc(buf, cap *= 2) : NULL;
            if (!more) {
                r = Z_MEM_ERROR;
                break;
            }
            buf = more;
        }
        if (!z.avail_in) {
            size_t part = in->len - fed < 1 << 30 ? in->len - fed : 1 << 30;
            z.next_in = in->at + fed;
            z.avail_in = (uInt)part;
            fed += part;
        }
        size_t room = cap - len < 1 << 30 ? cap - len : 1 << 30;
        z.next_out = buf + len;
        z.avail_out = (uInt)room;
        bool at_end = !z.avail_in;
        r = inflate(&z, Z_NO_FLUSH);
        len += room - z.avail_out;
        /* gzip files may be members one after the other */
        if (r == Z_STREAM_END && (z.avail_in || fed < in->len) && z.avail_in && z.next_in[0] == 0x1f)
            r = inflateReset(&z);
        else if (r == Z_BUF_ERROR && at_end)
            break;
    }
    inflateEnd(&z);
    if (r != Z_STREAM_END) {
        free(buf);
        return r == Z_MEM_ERROR ? rt_error_memory(e, cap)
                                : rt_error(e, RT_FILE, "'%s' is cut short or damaged: gzip cannot unpack it", path);
    }
    *out = (FileBytes){buf, len, false};
    return true;
}

#endif

bool file_read_gz(const char *path, FileBytes *out, RtError *e)
{
    FileBytes raw;
    if (!file_read(path, &raw, e))
        return false;
    if (raw.len < 2 || raw.at[0] != 0x1f || raw.at[1] != 0x8b) {
        *out = raw;
        return true;
    }
    bool ok = unpack(path, &raw, out, e);
    file_free(&raw);
    return ok;
}
