// Stands in for Gloo's own header, which LibTorch's wheel has the code of but does not bring along.
#pragma once
