"""Tests of conformance/performance."""
