// The main of every MPI test program: all ranks run the same cases; a failure on any rank fails the program.
#ifndef TRIDENT_CATCH2_V3
#define CATCH_CONFIG_RUNNER
#endif
#include <mpi.h>

#include "support/catch.h"

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  const int failed = Catch::Session().run(argc, argv);
  // A rank that failed may have left the others waiting in a collective: end them all, at once.
  if (failed != 0) MPI_Abort(MPI_COMM_WORLD, failed);
  MPI_Finalize();
  return failed;
}
