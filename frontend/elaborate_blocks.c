/* elaborate_blocks.c: blocks: definitions, arguments of a use, expansion; and sequences that were given a name.
 * In: a use of a block. Out: its layers, in a sequence of their own.
 * Invariant: a block sees its parameters and the file's lets, never its caller's names; used_at of its layers is the use.
 * The idea: arguments are values, computed where the block is used; the body is then walked like any other text. */
#include "frontend/elaborate_impl.h"
#include <string.h>

enum { MAX_BLOCK_DEPTH = 100 };
static const uint32_t NO_PARAMETER = UINT32_MAX;

const Ast *find_block(const Elab *e, const char *name)
{
    for (uint32_t i = 0; i < e->blocks.len; i++)
        if (!strcmp(e->blocks.at[i]->text, name))
            return e->blocks.at[i];
    return NULL;
}

/* Which parameter an argument is for; NO_PARAMETER: reported. *position counts those without a name. */
static uint32_t parameter_of(Elab *e, const Ast *block, const Ast *arg, uint32_t *position)
{
    uint32_t n = block->kids.len, at = 0;
    if (arg->kind != AST_ARG) {
        at = (*position)++;
    } else {
        const char **names = NEWN(e->arena, const char *, n + 1);
        for (; at < n && strcmp(block->kids.at[at]->text, arg->text) != 0; at++)
            names[at] = block->kids.at[at]->text;
        if (at == n) {
            diag_error(e->diags, arg->text_span, "E0221", "block %s has no parameter '%s'", block->text, arg->text);
            const char *near = nearest_word(arg->text, names);
            if (near)
                diag_help(e->diags, "did you mean %s?", near);
            diag_note(e->diags, block->text_span, "the block is defined here");
            return NO_PARAMETER;
        }
    }
    if (at < n)
        return at;
    diag_error(e->diags, arg->span, "E0223", "block %s takes %u argument%s", block->text, n, n == 1 ? "" : "s");
    diag_note(e->diags, block->text_span, "the block is defined here");
    return NO_PARAMETER;
}

/* The arguments by parameter; false: reported. */
static bool match_parameters(Elab *e, const Ast *block, const Ast *use, const Ast **given)
{
    uint32_t position = 0;
    bool fine = true;
    for (uint32_t i = 0; i < use->kids.len; i++) {
        const Ast *arg = use->kids.at[i];
        uint32_t at = parameter_of(e, block, arg, &position);
        if (at == NO_PARAMETER)
            fine = false;
        else if (given[at])
            fine =
                diag_error(e->diags, arg->span, "E0222", "%s of block %s is given twice", block->kids.at[at]->text, block->text);
        else
            given[at] = arg;
        if (at == NO_PARAMETER && arg->kind != AST_ARG)
            break; /* too many: told once */
    }
    return fine;
}

/* Binds a block's parameters to the arguments of one use; defaults see the parameters before them. False: reported. */
static bool bind_parameters(Elab *e, Scope *caller, Scope *own, const Ast *block, const Ast *use)
{
    uint32_t n = block->kids.len;
    const Ast **given = NEWN(e->arena, const Ast *, n + 1);
    bool fine = match_parameters(e, block, use, given);
    for (uint32_t i = 0; i < n; i++) {
        const Ast *param = block->kids.at[i], *arg = given[i];
        if (!arg && !param->a) {
            if (fine) {
                fine = diag_error(e->diags, use->span, "E0220", "block %s is missing %s", block->text, param->text);
                diag_note(e->diags, param->span, "the parameter has no default");
            }
            continue;
        }
        Val v = arg ? eval(e, caller, arg->kind == AST_ARG ? arg->a : arg) : eval(e, own, param->a);
        fine &= v.kind != VK_ERROR;
        scope_bind(e, own, param->text, v, param->span);
    }
    return fine;
}

ValueId use_block(Elab *e, Seq *seq, Scope *scope, const Ast *block, const Ast *use, ValueId in)
{
    Scope own = {.up = e->globals, .block = true};
    const char *name = next_name(e, seq, use);
    if (!bind_parameters(e, scope, &own, block, use))
        return unknown_value(e);
    if (e->block_depth >= MAX_BLOCK_DEPTH) {
        diag_error(e->diags, use->span, "E0233", "block %s uses itself without end", block->text);
        diag_help(e->diags, "blocks may nest %d deep", MAX_BLOCK_DEPTH);
        e->stop = true;
        return unknown_value(e);
    }
    Seq body = inner_sequence(e, seq, arena_printf(e->arena, "%s.", name), use);
    Span used_at = e->used_at;
    bool in_block = e->in_block;
    e->used_at = use->span;
    e->in_block = true;
    e->block_depth++;
    ValueId out = elaborate_items(e, &body, &own, block->b, in);
    e->block_depth--;
    e->used_at = used_at;
    e->in_block = in_block;
    return out;
}

void define_block(Elab *e, const Ast *ast)
{
    no_label(e, ast, "block");
    const Ast *other = find_block(e, ast->text);
    if (other != ast && other)
        diag_error(e->diags, ast->text_span, "E0218", "block '%s' is already defined", ast->text),
            diag_note(e->diags, other->text_span, "the first time is here");
    if (layer_spec(ast->text) || is_keyword(ast->text))
        diag_error(e->diags, ast->text_span, "E0218", "'%s' is the name of a layer", ast->text);
    for (uint32_t i = 0; i < ast->kids.len; i++)
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp(ast->kids.at[i]->text, ast->kids.at[k]->text))
                diag_error(e->diags, ast->kids.at[i]->span, "E0218", "block %s has two parameters called '%s'", ast->text,
                           ast->kids.at[i]->text);
}

/* Blocks may be used above their definition, and in each other. */
void collect_blocks(Elab *e, const Ast *list)
{
    for (uint32_t i = 0; i < list->kids.len; i++)
        if (list->kids.at[i]->kind == AST_BLOCK)
            vec_push(e->arena, &e->blocks, list->kids.at[i]);
}

/* ---- features = Sequential(...), used further down as a layer ---- */

/* Is `name` written as a layer anywhere in the items? */
static bool is_mentioned(const Ast *ast, const char *name)
{
    if (ast->kind == AST_LAYER && !ast->i && !strcmp(ast->text, name))
        return true;
    if (ast->kind < AST_ITEMS)
        return false;
    for (uint32_t i = 0; i < ast->kids.len; i++)
        if (is_mentioned(ast->kids.at[i], name))
            return true;
    return (ast->a && is_mentioned(ast->a, name)) || (ast->b && is_mentioned(ast->b, name));
}

void collect_sequences(Elab *e, const Ast *file)
{
    for (uint32_t i = 0; i < file->kids.len; i++) {
        const Ast *ast = file->kids.at[i];
        if (ast->kind == AST_ASSIGN && ast->a->kind == AST_SEQUENTIAL && is_mentioned(file, ast->text))
            vec_push(e->arena, &e->sequences, ast);
    }
}

const Ast *find_sequence(const Elab *e, const char *name)
{
    for (uint32_t i = e->sequences.len; i > 0; i--)
        if (!strcmp(e->sequences.at[i - 1]->text, name))
            return e->sequences.at[i - 1];
    return NULL;
}
