// What the core's library shows to the libraries beside it; all else in it is hidden.
#pragma once

#define NEGATIVE_COSINE_API __attribute__((visibility("default")))
