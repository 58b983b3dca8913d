//! Templates: rules one by one.
