/* Whole files in memory, and files written so that they are either complete or absent.
 * FileBytes owns its memory (file_free); a FileWriter owns its temporary file until commit or abandon. */
#ifndef CNNC_RUNTIME_FILE_H
#define CNNC_RUNTIME_FILE_H
#include "runtime/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct { uint8_t *at; size_t len; bool mapped; } FileBytes;

bool file_read(const char *path, FileBytes *out, RtError *e);         /* maps regular files, reads pipes; refuses folders */
bool file_read_gz(const char *path, FileBytes *out, RtError *e);      /* the same, unpacking gzip when the bytes say so */
void file_free(FileBytes *f);                                         /* also of a zeroed FileBytes */
/* Memory of a mapped file's bytes that have been read goes back; reading them again brings them back. */
void file_forget(const FileBytes *f, const void *at, size_t bytes);
bool file_exists(const char *path);                                   /* anything readable of that name */
bool file_is_folder(const char *path);

/* Writes PATH.tmpXXXXXX beside PATH; commit syncs it to disk and renames it. Failures are remembered: only commit reports. */
typedef struct { int fd; char *path, *temp; int error; uint8_t *buf; size_t used; } FileWriter;
bool file_writer_open(FileWriter *w, const char *path, RtError *e);
void file_writer_put(FileWriter *w, const void *bytes, size_t n);
bool file_writer_commit(FileWriter *w, RtError *e);                   /* frees w in any case */
void file_writer_abandon(FileWriter *w);                              /* removes the temporary file; fine after commit */
bool file_write(const char *path, const void *bytes, size_t n, RtError *e);

/* little-endian loads; the format readers' only way to look at numbers */
static inline uint16_t load_le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t load_le32(const uint8_t *p) { return (uint32_t)load_le16(p) | (uint32_t)load_le16(p + 2) << 16; }
static inline uint64_t load_le64(const uint8_t *p) { return (uint64_t)load_le32(p) | (uint64_t)load_le32(p + 4) << 32; }
static inline uint32_t load_be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
#endif
