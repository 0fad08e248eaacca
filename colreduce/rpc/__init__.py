"""The protocol of the service and the client that speaks it. The library imports gRPC only here."""
