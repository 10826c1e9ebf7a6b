// A driver that has pinned one range, which the test sets.
extern "C" {

unsigned long long understudy_pinned_begin = 0, understudy_pinned_end = 0;

int cuPointerGetAttribute(void* out, int attribute, unsigned long long address) {
  if (attribute != 2 || address < understudy_pinned_begin || address >= understudy_pinned_end) {
    return 1;  // CUDA_ERROR_INVALID_VALUE
  }
  *static_cast<unsigned*>(out) = 1;  // CU_MEMORYTYPE_HOST
  return 0;
}
}
