/* Zip archives with stored (uncompressed) entries, looked at in memory. Entries point into the archive's bytes. */
#ifndef CNNC_RUNTIME_ZIP_H
#define CNNC_RUNTIME_ZIP_H
#include "runtime/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct { const char *name; size_t name_len; uint64_t local, size, packed; uint32_t crc; uint16_t method; } ZipEntry;
typedef struct { const uint8_t *bytes; size_t len; ZipEntry *at; size_t n; const char *file; } Zip;   /* owns only `at` */

bool zip_open(const uint8_t *bytes, size_t len, const char *file, Zip *out, RtError *e);
void zip_free(Zip *z);
/* The entry PREFIX + NAME, or NULL. */
const ZipEntry *zip_find(const Zip *z, const char *prefix, size_t prefix_len, const char *name);
/* Its bytes, checked against its length and CRC; refuses compressed entries. */
bool zip_bytes(const Zip *z, const ZipEntry *entry, const uint8_t **at, size_t *len, RtError *e);
#endif
