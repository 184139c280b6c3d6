/* A CUDA driver without a GPU, for tests: device memory is the host's, and what is enqueued on a stream runs only when
 * somebody waits for the stream. So a result that is read too early is old, and host memory that is changed too early is
 * changed before it was copied. Compiled against NVIDIA's cuda.h, so these are the real functions' arguments. */
#include <cuda.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  void *to;
  const void *from;
  size_t size;
  void (*call)(void *);
  void *argument;
  struct CUevent_st *event;
} work;
typedef struct {
  work *items;
  size_t count;
} list;
struct CUstream_st {
  list waiting;
  list *captured;
  int broken; /* the capture */
};
struct CUgraph_st {
  list work;
};
struct CUgraphExec_st {
  list work;
};
struct CUevent_st {
  float at;
};

/* What tests read and set. */
int fake_refused = 0;            /* the code that the next call of fake_refuses returns */
char fake_refuses[64] = "";      /* a function's name */
long fake_allocated, fake_pinned, fake_waits, fake_launches, fake_bytes_up, fake_bytes_down;
int fake_memory_mb = 1 << 20;    /* of the whole GPU */
int fake_idle = 0;               /* 1: nothing is copied and nothing runs, as if it took no time */
static float now;

static CUresult answer(const char *name) {
  if (fake_refused && strcmp(name, fake_refuses) == 0) {
    int code = fake_refused;
    fake_refused = 0;
    return code;
  }
  return CUDA_SUCCESS;
}
#define REFUSE                          \
  CUresult refused = answer(__func__);  \
  if (refused) return refused

static void append(list *l, work w) {
  l->items = realloc(l->items, (l->count + 1) * sizeof(work));
  l->items[l->count++] = w;
}
static void run(list *l) {
  for (size_t i = 0; i < l->count; i++) {
    work w = l->items[i];
    now += 1;
    if (w.size && !fake_idle) memcpy(w.to, w.from, w.size);
    if (w.call && !fake_idle) w.call(w.argument);
    if (w.event) w.event->at = now;
  }
}
static void enqueue(CUstream s, work w) { append(s->captured ? s->captured : &s->waiting, w); }
/* What a fake TensorRT runs on a stream. 1 where it is captured instead. */
int fake_enqueue(CUstream s, void (*call)(void *), void *argument) {
  enqueue(s, (work){.call = call, .argument = argument});
  return s->captured != NULL;
}
/* As another thread's allocation does to a capture in CUDA's default mode. */
void fake_break_capture(CUstream s) { s->broken = 1; }

CUresult cuInit(unsigned int flags) { REFUSE; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { *device = 0; return CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute what, CUdevice device) {
  *value = what == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 8 : 9;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
  strncpy(name, "Fake", length);
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  *bytes = (size_t)fake_memory_mb << 20;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { *context = malloc(1); return CUDA_SUCCESS; }
static __thread int current;
CUresult cuCtxSetCurrent(CUcontext context) { current = 1; return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult error, const char **text) { *text = "CUDA_ERROR_FAKE"; return CUDA_SUCCESS; }
CUresult cuMemGetInfo(size_t *available, size_t *total) {
  *total = (size_t)fake_memory_mb << 20;
  *available = *total - fake_allocated;
  return CUDA_SUCCESS;
}
/* Sizes lie in front of the memory. */
CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
  REFUSE;
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  if (fake_allocated + (long)size > (long)fake_memory_mb << 20) return CUDA_ERROR_OUT_OF_MEMORY;
  size_t *start = aligned_alloc(256, (size / 256 + 2) * 256);
  *start = size;
  fake_allocated += size;
  memset((char *)start + 256, 0x7f, size); /* a NaN, for whoever reads what nobody wrote */
  *address = (CUdeviceptr)((char *)start + 256);
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  size_t *start = (size_t *)(address - 256);
  fake_allocated -= *start;
  free(start);
  return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **host, size_t size, unsigned int flags) {
  REFUSE;
  *host = calloc(1, size);
  fake_pinned += 1;
  return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *host) { free(host); fake_pinned -= 1; return CUDA_SUCCESS; }
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream s) {
  REFUSE;
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  fake_bytes_up += size;
  enqueue(s, (work){.to = (void *)to, .from = from, .size = size});
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream s) {
  fake_bytes_down += size;
  enqueue(s, (work){.to = to, .from = (void *)from, .size = size});
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream s) {
  enqueue(s, (work){.to = (void *)to, .from = (void *)from, .size = size});
  return CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream *s, unsigned int flags) {
  *s = calloc(1, sizeof(struct CUstream_st));
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream s) {
  REFUSE;
  if (s->captured) { s->broken = 1; return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; }
  fake_waits += 1;
  run(&s->waiting);
  s->waiting.count = 0;
  return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode mode) {
  REFUSE;
  if (mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) return CUDA_ERROR_INVALID_VALUE;
  s->captured = calloc(1, sizeof(list));
  s->broken = 0;
  return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream s, CUgraph *graph) {
  list *captured = s->captured;
  s->captured = NULL;
  *graph = NULL;
  if (s->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *graph = calloc(1, sizeof(struct CUgraph_st));
  (*graph)->work = *captured;
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
  REFUSE;
  *executable = calloc(1, sizeof(struct CUgraphExec_st));
  (*executable)->work = graph->work;
  return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream s) {
  fake_launches += 1;
  for (size_t i = 0; i < executable->work.count; i++) append(&s->waiting, executable->work.items[i]);
  return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) { free(graph); return CUDA_SUCCESS; }
CUresult cuGraphExecDestroy(CUgraphExec executable) { free(executable); return CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent *event, unsigned int flags) {
  *event = calloc(1, sizeof(struct CUevent_st));
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream s) { enqueue(s, (work){.event = event}); return CUDA_SUCCESS; }
CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) {
  if (!begin->at || !end->at) return CUDA_ERROR_NOT_READY;
  *milliseconds = end->at - begin->at;
  return CUDA_SUCCESS;
}
