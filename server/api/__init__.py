"""HTTP only: parse, call one verb or store, convert. One router a resource."""
