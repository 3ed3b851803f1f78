/* Finds the stored entries of a zip archive.
 * In: bytes that anybody may have written. Out: entries, and their bytes in place.
 * Relies on nothing in the archive: every offset is checked before it is followed.
 * Idea: the end record (with its 64-bit twin) leads to the central directory, each row of that to a local header, whose name
 * and extra field have lengths of their own; the bytes come right after. */
#include "runtime/zip.h"
#include "runtime/file.h"
#include <stdlib.h>
#include <string.h>

enum { END_SIZE = 22, LOCATOR_SIZE = 20, END64_SIZE = 56, ROW_SIZE = 46, LOCAL_SIZE = 30 };

#ifdef CNNC_WITHOUT_ZLIB
/* CRC-32 of zip and gzip, a byte at a time; its table is made on the way. */
static uint32_t checksum(const uint8_t *bytes, size_t n)
{
    uint32_t table[256], crc = 0xffffffff;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    for (size_t i = 0; i < n; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
    return ~crc;
}
#else
#include <zlib.h>
static uint32_t checksum(const uint8_t *bytes, size_t n) { return (uint32_t)crc32_z(0, bytes, n); }
#endif

static bool damaged(const Zip *z, RtError *e)
{
    return rt_error(e, RT_FILE, "'%s' is cut short or damaged: its zip directory cannot be read", z->file);
}

static bool inside(const Zip *z, uint64_t at, uint64_t n) { return at <= z->len && n <= z->len - at; }

/* Sizes and offsets that do not fit 32 bits stand in the row's extra field 1, in this order, only those that do not fit. */
static bool wide_fields(const uint8_t *extra, size_t len, uint64_t *const fields[3])
{
    while (len >= 4) {
        size_t id = load_le16(extra), n = load_le16(extra + 2);
        if (n > len - 4)
            return false;
        const uint8_t *p = extra + 4;
        for (int i = 0; id == 1 && i < 3; i++)
            if (*fields[i] == 0xffffffff && (size_t)(p - extra - 4) + 8 <= n) {
                *fields[i] = load_le64(p);
                p += 8;
            }
        extra += 4 + n;
        len -= 4 + n;
    }
    return true;
}

static bool read_directory(Zip *z, uint64_t at, uint64_t rows, RtError *e)
{
    if (rows > z->len / ROW_SIZE)
        return damaged(z, e);
    z->at = calloc((size_t)rows + 1, sizeof *z->at);
    if (!z->at)
        return rt_error_memory(e, rows * sizeof *z->at);
    for (; z->n < rows; z->n++) {
        if (!inside(z, at, ROW_SIZE) || load_le32(z->bytes + at) != 0x02014b50)
            return damaged(z, e);
        const uint8_t *p = z->bytes + at;
        size_t name = load_le16(p + 28), extra = load_le16(p + 30), comment = load_le16(p + 32);
        if (!inside(z, at + ROW_SIZE, name + extra + comment))
            return damaged(z, e);
        ZipEntry t = {
            (const char *)p + ROW_SIZE, name, load_le32(p + 42), load_le32(p + 24), load_le32(p + 20), load_le32(p + 16),
            load_le16(p + 10)};
        if (!wide_fields(p + ROW_SIZE + name, extra, (uint64_t *const[]){&t.size, &t.packed, &t.local}))
            return damaged(z, e);
        z->at[z->n] = t;
        at += ROW_SIZE + name + extra + comment;
    }
    return true;
}

bool zip_open(const uint8_t *bytes, size_t len, const char *file, Zip *out, RtError *e)
{
    Zip z = {.bytes = bytes, .len = len, .file = file};
    *out = (Zip){0};
    size_t end = len < END_SIZE ? len : len - END_SIZE, first = len > 65535 + END_SIZE ? len - 65535 - END_SIZE : 0;
    while (len >= END_SIZE && end > first && load_le32(bytes + end) != 0x06054b50)
        end--;
    if (len < END_SIZE || load_le32(bytes + end) != 0x06054b50)
        return damaged(&z, e);
    uint64_t rows = load_le16(bytes + end + 10), at = load_le32(bytes + end + 16);
    if ((rows == 0xffff || at == 0xffffffff) && end >= LOCATOR_SIZE && load_le32(bytes + end - LOCATOR_SIZE) == 0x07064b50) {
        uint64_t wide = load_le64(bytes + end - LOCATOR_SIZE + 8);
        if (!inside(&z, wide, END64_SIZE) || load_le32(bytes + wide) != 0x06064b50)
            return damaged(&z, e);
        rows = load_le64(bytes + wide + 32);
        at = load_le64(bytes + wide + 48);
    }
    if (!read_directory(&z, at, rows, e)) {
        zip_free(&z);
        return false;
    }
    *out = z;
    return true;
}

void zip_free(Zip *z)
{
    free(z->at);
    *z = (Zip){0};
}

const ZipEntry *zip_find(const Zip *z, const char *prefix, size_t prefix_len, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < z->n; i++) {
        const ZipEntry *t = &z->at[i];
        if (t->name_len == prefix_len + n && memcmp(t->name, prefix, prefix_len) == 0 &&
            memcmp(t->name + prefix_len, name, n) == 0)
            return t;
    }
    return NULL;
}

bool zip_bytes(const Zip *z, const ZipEntry *t, const uint8_t **at, size_t *len, RtError *e)
{
    if (t->method != 0)
        return rt_error(e, RT_FILE, "'%s': entry '%.*s' is compressed; PyTorch stores entries as they are", z->file,
                        (int)t->name_len, t->name);
    if (!inside(z, t->local, LOCAL_SIZE) || load_le32(z->bytes + t->local) != 0x04034b50 || t->size != t->packed)
        return damaged(z, e);
    const uint8_t *p = z->bytes + t->local;
    uint64_t start = t->local + LOCAL_SIZE + load_le16(p + 26) + load_le16(p + 28);
    if (!inside(z, start, t->size))
        return rt_error(e, RT_FILE, "'%s' is cut short: entry '%.*s' runs past its end", z->file, (int)t->name_len, t->name);
    *at = z->bytes + start;
    *len = (size_t)t->size;
    if (checksum(*at, *len) != t->crc)
        return rt_error(e, RT_FILE, "'%s' is damaged: the checksum of entry '%.*s' does not match", z->file, (int)t->name_len,
                        t->name);
    return true;
}
