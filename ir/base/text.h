/* Text for people and for other programs: JSON strings, numbers with separators, byte counts. Nothing is owned. */
#ifndef CNNC_IR_BASE_TEXT_H
#define CNNC_IR_BASE_TEXT_H
#include "ir/base/arena.h"
#include <stdint.h>
#include <stdio.h>

void text_print_json(FILE *to, const char *s);         /* "quoted"; broken UTF-8 becomes U+FFFD */
const char *text_thousands(Arena *a, int64_t n);       /* 1,234,567 */
const char *text_bytes(Arena *a, int64_t bytes);       /* 18.4 KiB */
uint32_t text_utf8_length(const char *s, size_t left); /* bytes of the character at s; 0: broken */
#endif
