"""Continuous tokens: autoencoders of latent diffusion (SD 1.5, SDXL, SD3, FLUX, FlexTok's, DC-AE)."""
