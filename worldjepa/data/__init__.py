"""Rollouts: who acts, how they are collected, stored, and read as windows."""
