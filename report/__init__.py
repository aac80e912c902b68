"""Reads result records and builds the report; measures nothing."""
