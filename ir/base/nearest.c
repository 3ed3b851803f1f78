/* The nearest known word: "did you mean".
 * In: a misspelt word and the known ones. Out: the nearest by Damerau-Levenshtein distance, case ignored, or NULL.
 * Invariant: words longer than MAX_WORD are never near anything.
 * Idea: optimal string alignment over three rows; near means at most a third of the letters differ. */
#include "ir/base/diag.h"

#include <ctype.h>
#include <string.h>

enum { MAX_WORD = 63 };

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

static bool same_letter(char a, char b) { return tolower((unsigned char)a) == tolower((unsigned char)b); }

static int word_distance(const char *a, int na, const char *b, int nb)
{
    int rows[3][MAX_WORD + 2];
    int *before = rows[0], *prev = rows[1], *row = rows[2];
    for (int j = 0; j <= nb; j++)
        prev[j] = j;
    for (int i = 1; i <= na; i++) {
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            bool same = same_letter(a[i - 1], b[j - 1]);
            row[j] = min3(prev[j] + 1, row[j - 1] + 1, prev[j - 1] + !same);
            bool swapped = i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]);
            if (swapped && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        int *old = before;
        before = prev;
        prev = row;
        row = old;
    }
    return prev[nb];
}

const char *nearest_word(const char *word, const char *const *names)
{
    size_t n = strlen(word);
    const char *best = NULL;
    int best_distance = 0;
    if (n == 0 || n > MAX_WORD)
        return NULL;
    for (; *names; names++) {
        size_t m = strlen(*names);
        if (m > MAX_WORD)
            continue;
        int longest = (int)(n > m ? n : m), limit = longest <= 2 ? 1 : (longest + 2) / 3;
        int d = word_distance(word, (int)n, *names, (int)m);
        if (d <= limit && d < longest && (!best || d < best_distance)) {
            best = *names;
            best_distance = d;
        }
    }
    return best;
}
