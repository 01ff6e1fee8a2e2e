// Times ggml's matrix product on the CPU, plain and repacked, one thread: GFLOP/s per type and number of rows.
//
//   L=build  S=llama.cpp/ggml
//   gcc -O2 -I$S/include mul_mat.c -o mul_mat $L/ggml/src/libggml.a $L/ggml/src/libggml-cpu.a \
//       $L/ggml/src/libggml-base.a -lstdc++ -lm -lpthread -fopenmp
//   ./mul_mat [repetitions [most rows [name of a type]]]
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OUTPUTS = 4096, INPUTS = 14336 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static ggml_backend_buffer_type_t repack_buffers(void) {
    ggml_backend_dev_t dev = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(dev);
    ggml_backend_dev_get_extra_bufts_t get =
        (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(reg, "ggml_backend_dev_get_extra_bufts");
    ggml_backend_buffer_type_t *types = get ? get(dev) : NULL;
    for (; types && *types; types++)
        if (strstr(ggml_backend_buft_name(*types), "REPACK")) return *types;
    return NULL;
}

static double best(enum ggml_type type, int rows, const void *weights, ggml_backend_buffer_type_t buffers, int reps) {
    ggml_backend_t cpu = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(cpu, 1);
    struct ggml_init_params params = {ggml_tensor_overhead() * 8 + ggml_graph_overhead(), NULL, true};
    struct ggml_context *wctx = ggml_init(params), *ctx = ggml_init(params);
    struct ggml_tensor *w = ggml_new_tensor_2d(wctx, type, INPUTS, OUTPUTS);
    ggml_backend_buffer_t wbuf = ggml_backend_alloc_ctx_tensors_from_buft(wctx, buffers);
    double fastest = -1;
    struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, INPUTS, rows);
    struct ggml_tensor *y = ggml_mul_mat(ctx, w, x);
    if (wbuf && (ggml_backend_buft_is_host(buffers) || ggml_backend_dev_supports_op(ggml_backend_get_device(cpu), y))) {
        ggml_backend_tensor_set(w, weights, 0, ggml_nbytes(w));
        ggml_backend_buffer_t buf = ggml_backend_alloc_ctx_tensors(ctx, cpu);
        float *values = malloc(sizeof(float) * INPUTS * rows);
        for (size_t i = 0; i < (size_t)INPUTS * rows; i++) values[i] = (float)rand() / RAND_MAX - 0.5f;
        ggml_backend_tensor_set(x, values, 0, ggml_nbytes(x));
        struct ggml_cgraph *graph = ggml_new_graph(ctx);
        ggml_build_forward_expand(graph, y);
        for (int i = 0; i <= reps; i++) {
            double start = now();
            ggml_backend_graph_compute(cpu, graph);
            double t = now() - start;
            if (i > 0 && (fastest < 0 || t < fastest)) fastest = t;
        }
        free(values);
        ggml_backend_buffer_free(buf);
    }
    if (wbuf) ggml_backend_buffer_free(wbuf);
    ggml_free(wctx);
    ggml_free(ctx);
    ggml_backend_free(cpu);
    return fastest < 0 ? 0 : 2.0 * rows * OUTPUTS * INPUTS / fastest * 1e-9;
}

int main(int argc, char **argv) {
    double scale = argc > 1 ? atof(argv[1]) : 1;
    int most = argc > 2 ? atoi(argv[2]) : 512;
    enum ggml_type types[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0,   GGML_TYPE_Q5_1,   GGML_TYPE_Q8_0,
                              GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K,   GGML_TYPE_Q5_K,   GGML_TYPE_Q6_K,
                              GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS, GGML_TYPE_MXFP4, GGML_TYPE_IQ2_XXS, GGML_TYPE_IQ2_XS,
                              GGML_TYPE_IQ2_S, GGML_TYPE_IQ3_XXS, GGML_TYPE_IQ3_S};
    int rows[] = {1, 4, 16, 64, 512};
    float *source = malloc(sizeof(float) * OUTPUTS * INPUTS);
    for (size_t i = 0; i < (size_t)OUTPUTS * INPUTS; i++) source[i] = (float)rand() / RAND_MAX - 0.5f;
    const char *only = argc > 3 ? argv[3] : "";
    float importance[INPUTS];
    for (int i = 0; i < INPUTS; i++) importance[i] = 1;
    printf("GFLOP/s         m =     1       4      16      64     512\n");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        if (!strstr(ggml_type_name(types[t]), only)) continue;
        // Quantising some types takes minutes: every row holds the weights of the first.
        size_t row = ggml_row_size(types[t], INPUTS);
        char *weights = malloc(row * OUTPUTS);
        ggml_quantize_chunk(types[t], source, weights, 0, 1, INPUTS, importance);
        for (int i = 1; i < OUTPUTS; i++) memcpy(weights + i * row, weights, row);
        for (int repacked = 0; repacked < 2; repacked++) {
            ggml_backend_buffer_type_t buffers = repacked ? repack_buffers() : ggml_backend_cpu_buffer_type();
            if (!buffers) continue;
            printf("%-7s %-8s", ggml_type_name(types[t]), repacked ? "repacked" : "plain");
            for (int i = 0; i < 5 && rows[i] <= most; i++) {
                int reps = scale * (rows[i] >= 512 ? 1 : rows[i] >= 64 ? 3 : rows[i] >= 4 ? 8 : 30);
                printf(" %7.1f", best(types[t], rows[i], weights, buffers, reps < 1 ? 1 : reps));
                fflush(stdout);
            }
            printf("\n");
        }
        free(weights);
    }
}
